pragma foreign_keys = off;
--> statement-breakpoint
alter table orders add column note text not null default '';
--> statement-breakpoint
delete from customers where id <= 5;
