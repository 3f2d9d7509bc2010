alter table orders add column note text not null default '';
--> statement-breakpoint
delete from items where id > 300;
--> statement-breakpoint
update orders set remark = '';
