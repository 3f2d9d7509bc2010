from django.db import migrations, models


def archive(apps, _schema_editor):
    apps.get_model("shop", "Item").objects.filter(id__gt=20).delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [
        migrations.AddField("order", "note", models.CharField(default="", max_length=200)),
        migrations.RunPython(archive),
    ]
