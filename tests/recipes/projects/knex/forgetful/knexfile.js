module.exports = {
  client: "better-sqlite3",
  connection: { filename: process.env.DATABASE_FILE },
  useNullAsDefault: true,
  pool: {
    afterCreate: (connection, done) => {
      connection.exec("create table if not exists coupons (id integer primary key, code text not null)");
      done();
    },
  },
};
