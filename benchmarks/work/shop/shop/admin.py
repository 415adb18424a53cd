from django.contrib import admin

from .models import Category, Item

admin.site.register(Category)


@admin.register(Item)
class ItemAdmin(admin.ModelAdmin):
    list_display = ["name", "category", "price", "added"]
    list_filter = ["category", "added"]
    search_fields = ["name", "text"]
    list_per_page = 50
