// ioredis: the commands of a cache.
import assert from 'node:assert/strict';
import Redis from 'ioredis';
import { PORTS, eventually } from './common.mjs';

const clients = PORTS.map((port) => new Redis(port));
const [one, two] = clients;
await one.flushall();
assert.equal(await one.set('k', 'v', 'EX', 60), 'OK');
await eventually(async () => (await two.get('k')) === 'v', 'the write on another node');
assert.deepEqual(await one.multi().set('m', 1).get('m').ttl('k').exec(), [[null, 'OK'], [null, '1'], [null, 60]]);
const pipeline = one.pipeline();
for (let i = 0; i < 10_000; i++) pipeline.set(`p:${i}`, i);
assert.ok((await pipeline.exec()).every(([error, reply]) => error === null && reply === 'OK'));
let found = 0;
for await (const keys of one.scanStream({ match: 'p:*', count: 100 })) found += keys.length;
assert.equal(found, 10_000);
assert.deepEqual(await one.mget('p:1', 'none'), ['1', null]);
assert.equal(await one.getdel('m'), '1');
assert.deepEqual(await one.getBuffer('p:1'), Buffer.from('1'));
await assert.rejects(one.incr('k'), /UNSUPPORTED 'incr'/);
await assert.rejects(one.multi().set('refused', 1).incr('k').exec(), /EXECABORT/);
assert.equal(await one.get('refused'), null);
assert.match(await one.info('server'), /redis_version:7/);
await one.flushall();
await eventually(async () => (await two.dbsize()) === 0, 'the flush on another node');
await Promise.all(clients.map((client) => client.quit()));
console.log('ioredis');
