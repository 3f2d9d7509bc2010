import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    customers = op.create_table(
        "customers", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String, nullable=False)
    )
    orders = op.create_table(
        "orders",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("customer_id", sa.Integer, sa.ForeignKey("customers.id"), nullable=False),
        sa.Column("placed_on", sa.String, nullable=False),
    )
    items = op.create_table(
        "items",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("order_id", sa.Integer, sa.ForeignKey("orders.id"), nullable=False),
        sa.Column("sku", sa.String, nullable=False),
        sa.Column("quantity", sa.Integer, nullable=False),
    )
    op.bulk_insert(customers, [{"id": i, "name": f"customer {i}"} for i in range(1, 41)])
    op.bulk_insert(orders, [{"id": i, "customer_id": 1 + i % 40, "placed_on": "2026-01-01"} for i in range(1, 121)])
    op.bulk_insert(items, [{"id": i, "order_id": 1 + i % 120, "sku": f"sku-{i}", "quantity": 1} for i in range(1, 361)])
