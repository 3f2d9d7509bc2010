from django.db import models


class Customer(models.Model):
    name = models.CharField(max_length=100)


class Order(models.Model):
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT)
    placed_on = models.DateField()


class Item(models.Model):
    order = models.ForeignKey(Order, on_delete=models.PROTECT)
    sku = models.CharField(max_length=100)
    quantity = models.IntegerField()
