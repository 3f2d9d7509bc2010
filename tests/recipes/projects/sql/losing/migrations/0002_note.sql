begin immediate;
alter table orders add column note text not null default '';
delete from items where id > 20;
pragma user_version = 2;
commit;
