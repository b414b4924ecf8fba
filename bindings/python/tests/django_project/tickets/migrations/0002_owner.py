"""SQLite needs a new table for the change of a column."""

from django.db import migrations, models


def fill(apps, schema_editor):
    apps.get_model("tickets", "Ticket").objects.update(owner="unknown")


class Migration(migrations.Migration):
    dependencies = [("tickets", "0001_initial")]
    operations = [
        migrations.AddField("ticket", "owner", models.TextField(default="")),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.AlterField("ticket", "owner", models.TextField()),
        migrations.AlterField("ticket", "number", models.IntegerField(unique=True)),
    ]
