import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    with op.batch_alter_table("orders") as orders:
        orders.add_column(sa.Column("note", sa.String, nullable=False, server_default=""))
    op.execute("delete from customers where id <= 5")
