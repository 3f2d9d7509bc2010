const { integer, sqliteTable, text } = require("drizzle-orm/sqlite-core");

exports.customers = sqliteTable("customers", {
  id: integer("id").primaryKey(),
  name: text("name").notNull(),
});

exports.orders = sqliteTable("orders", {
  id: integer("id").primaryKey(),
  customerId: integer("customer_id").notNull().references(() => exports.customers.id),
  placedOn: text("placed_on").notNull(),
});

exports.items = sqliteTable("items", {
  id: integer("id").primaryKey(),
  orderId: integer("order_id").notNull().references(() => exports.orders.id),
  sku: text("sku").notNull(),
  quantity: integer("quantity").notNull(),
});
