-- transactional: false
-- depends: 0001.initial
alter table orders add column note text not null default '';
delete from items where id > 300;
update orders set remark = '';
