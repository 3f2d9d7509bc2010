from django.db import models


class Coupon(models.Model):
    """An app without migrations: `migrate --run-syncdb` makes its table, and records nothing."""

    code = models.CharField(max_length=20)
