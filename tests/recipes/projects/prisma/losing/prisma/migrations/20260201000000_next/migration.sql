alter table orders add column note text not null default '';
delete from items where id > 20;
