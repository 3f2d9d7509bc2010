from django.apps import AppConfig


class Shop(AppConfig):
    name = "shop"
