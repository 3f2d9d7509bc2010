exports.up = async (knex) => {
  await knex.schema.alterTable("orders", (t) => t.string("note").notNullable().defaultTo(""));
  await knex("items").where("id", ">", 300).del();
  await knex("orders").update({ remark: "" });
};

exports.down = async () => {};

exports.config = { transaction: false };
