from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("order", "note", models.CharField(default="", max_length=200)),
        migrations.RunSQL("delete from shop_item where id > 300"),
        migrations.RunSQL("update shop_order set remark = ''"),
    ]
