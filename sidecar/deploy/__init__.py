"""Deploys: the road to a proof, the gate before, the rehearsal instead, the check after."""
