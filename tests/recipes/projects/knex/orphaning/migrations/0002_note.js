exports.up = async (knex) => {
  await knex.raw("pragma foreign_keys = off");
  await knex.schema.alterTable("orders", (t) => t.string("note").notNullable().defaultTo(""));
  await knex("customers").where("id", "<=", 5).del();
};

exports.down = async () => {};

exports.config = { transaction: false };
