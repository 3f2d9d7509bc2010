begin immediate;
create table coupons (id integer primary key, customer_id integer references customers (id), code text not null);
alter table orders add column note text not null default '';
pragma user_version = 2;
commit;
