from datetime import date

import django.db.models.deletion
from django.db import migrations, models


def fill(apps, _schema_editor):
    customer, order, item = (apps.get_model("shop", name) for name in ("Customer", "Order", "Item"))
    customer.objects.bulk_create(customer(id=i, name=f"customer {i}") for i in range(1, 41))
    order.objects.bulk_create(order(id=i, customer_id=1 + i % 40, placed_on=date(2026, 1, 1)) for i in range(1, 121))
    item.objects.bulk_create(item(id=i, order_id=1 + i % 120, sku=f"sku-{i}", quantity=1) for i in range(1, 361))


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("placed_on", models.DateField()),
                (
                    "customer",
                    models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="shop.customer"),
                ),
            ],
        ),
        migrations.CreateModel(
            name="Item",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sku", models.CharField(max_length=100)),
                ("quantity", models.IntegerField()),
                ("order", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="shop.order")),
            ],
        ),
        migrations.RunPython(fill),
    ]
