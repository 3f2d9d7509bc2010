const count = (length, make) => Array.from({ length }, (_, i) => make(i + 1));

exports.up = async (knex) => {
  await knex.schema.createTable("customers", (t) => {
    t.increments("id");
    t.string("name").notNullable();
  });
  await knex.schema.createTable("orders", (t) => {
    t.increments("id");
    t.integer("customer_id").notNullable().references("id").inTable("customers");
    t.date("placed_on").notNullable();
  });
  await knex.schema.createTable("items", (t) => {
    t.increments("id");
    t.integer("order_id").notNullable().references("id").inTable("orders");
    t.string("sku").notNullable();
    t.integer("quantity").notNullable();
  });
  await knex.batchInsert("customers", count(40, (i) => ({ name: `customer ${i}` })));
  await knex.batchInsert("orders", count(120, (i) => ({ customer_id: 1 + (i % 40), placed_on: "2026-01-01" })));
  await knex.batchInsert("items", count(360, (i) => ({ order_id: 1 + (i % 120), sku: `sku-${i}`, quantity: 1 })), 100);
};

exports.down = async () => {};
