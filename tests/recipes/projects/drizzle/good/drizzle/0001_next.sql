create table coupons (id integer primary key, customer_id integer references customers (id), code text not null);
--> statement-breakpoint
alter table orders add column note text not null default '';
