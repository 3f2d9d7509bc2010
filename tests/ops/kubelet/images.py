"""The images that the cluster runs, saved to files: podman builds them, where there is a network, and containerd imports them."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from tests.ops.podman import APP_IMAGE, IMAGE, image, podman
from tests.recipes.tools import need

PAUSE = "registry.k8s.io/pause:3.6"


def save(folder: Path) -> None:
    """Ours, the app's, and the one that holds a Pod's namespaces open: catatonit does what the real one does."""
    image()
    with tempfile.TemporaryDirectory() as context:
        shutil.copy(need("catatonit"), Path(context) / "catatonit")
        (Path(context) / "Containerfile").write_text(
            'FROM scratch\nCOPY catatonit /pause\nENTRYPOINT ["/pause", "-P"]\n'
        )
        podman("build", "-q", "--network=none", "-t", PAUSE, context)
    folder.mkdir(parents=True)
    # The app's stands on ours: one archive holds their layers once.
    podman("save", "-q", "-m", "-o", folder / "all.tar", IMAGE, APP_IMAGE, PAUSE, within=120)


if __name__ == "__main__":
    save(Path(sys.argv[1]))
