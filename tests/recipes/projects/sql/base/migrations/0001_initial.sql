begin immediate;
create table customers (id integer primary key, name text not null);
create table orders (
    id integer primary key,
    customer_id integer not null references customers (id),
    placed_on text not null
);
create table items (
    id integer primary key,
    order_id integer not null references orders (id),
    sku text not null,
    quantity integer not null
);
insert into customers (id, name)
with recursive n (i) as (select 1 union all select i + 1 from n where i < 40)
select i, 'customer ' || i from n;
insert into orders (id, customer_id, placed_on)
with recursive n (i) as (select 1 union all select i + 1 from n where i < 120)
select i, 1 + i % 40, date('2026-01-01', '+' || i || ' days') from n;
insert into items (id, order_id, sku, quantity)
with recursive n (i) as (select 1 union all select i + 1 from n where i < 360)
select i, 1 + i % 120, 'sku-' || i, 1 + i % 5 from n;
pragma user_version = 1;
commit;
