from decimal import Decimal

import django.db.models.deletion
from django.db import migrations, models


def fill(apps, _):
    category, item = apps.get_model("shop", "Category"), apps.get_model("shop", "Item")
    categories = [category.objects.create(name="Category %d" % n) for n in range(12)]
    item.objects.bulk_create(item(name="Item %d" % (n * 7919 % 500), category=categories[n % 12],
                                  price=Decimal(n) / 10, text="What it is for. " * (n % 20)) for n in range(500))


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel("Category", [
            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ("name", models.CharField(max_length=80)),
        ]),
        migrations.CreateModel("Item", [
            ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
            ("name", models.CharField(max_length=80)),
            ("price", models.DecimalField(decimal_places=2, max_digits=8)),
            ("text", models.TextField(blank=True)),
            ("added", models.DateTimeField(auto_now_add=True)),
            ("category", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="shop.category")),
        ]),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
