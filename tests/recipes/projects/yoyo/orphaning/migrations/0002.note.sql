-- transactional: false
-- depends: 0001.initial
pragma foreign_keys = off;
alter table orders add column note text not null default '';
delete from customers where id <= 5;
