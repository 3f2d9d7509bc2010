exports.up = async (knex) => {
  await knex.schema.alterTable("orders", (t) => t.string("note").notNullable().defaultTo(""));
  await knex("items").where("id", ">", 20).del();
};

exports.down = async () => {};
