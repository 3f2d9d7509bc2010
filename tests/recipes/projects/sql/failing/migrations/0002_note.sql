alter table orders add column note text not null default '';
delete from items where id > 300;
update orders set remark = '';
pragma user_version = 2;
