CREATE TABLE `customers` (
	`id` integer PRIMARY KEY NOT NULL,
	`name` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `orders` (
	`id` integer PRIMARY KEY NOT NULL,
	`customer_id` integer NOT NULL,
	`placed_on` text NOT NULL,
	FOREIGN KEY (`customer_id`) REFERENCES `customers`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE TABLE `items` (
	`id` integer PRIMARY KEY NOT NULL,
	`order_id` integer NOT NULL,
	`sku` text NOT NULL,
	`quantity` integer NOT NULL,
	FOREIGN KEY (`order_id`) REFERENCES `orders`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
insert into customers (id, name)
with recursive n (i) as (select 1 union all select i + 1 from n where i < 40)
select i, 'customer ' || i from n;
--> statement-breakpoint
insert into orders (id, customer_id, placed_on)
with recursive n (i) as (select 1 union all select i + 1 from n where i < 120)
select i, 1 + i % 40, date('2026-01-01', '+' || i || ' days') from n;
--> statement-breakpoint
insert into items (id, order_id, sku, quantity)
with recursive n (i) as (select 1 union all select i + 1 from n where i < 360)
select i, 1 + i % 120, 'sku-' || i, 1 + i % 5 from n;
