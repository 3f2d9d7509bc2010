exports.up = async (knex) => {
  await knex.schema.createTable("coupons", (t) => {
    t.increments("id");
    t.integer("customer_id").references("id").inTable("customers");
    t.string("code").notNullable();
  });
  await knex.schema.alterTable("orders", (t) => t.string("note").notNullable().defaultTo(""));
};

exports.down = async () => {};
