from django.db import models


class Category(models.Model):
    name = models.CharField(max_length=80)

    def __str__(self):
        return self.name


class Item(models.Model):
    name = models.CharField(max_length=80)
    category = models.ForeignKey(Category, on_delete=models.CASCADE)
    price = models.DecimalField(max_digits=8, decimal_places=2)
    text = models.TextField(blank=True)
    added = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return self.name
