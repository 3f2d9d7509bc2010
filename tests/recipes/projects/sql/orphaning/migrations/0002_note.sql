pragma foreign_keys = off;
begin immediate;
alter table orders add column note text not null default '';
delete from customers where id <= 5;
pragma user_version = 2;
commit;
