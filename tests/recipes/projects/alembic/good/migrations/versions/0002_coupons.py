import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_table("coupons", sa.Column("id", sa.Integer, primary_key=True), sa.Column("code", sa.String))
    with op.batch_alter_table("orders") as orders:
        orders.add_column(sa.Column("note", sa.String, nullable=False, server_default=""))
