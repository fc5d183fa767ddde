// node-redis: the commands of a cache, its client-side cache, and what is left of that after a lost connection.
import assert from 'node:assert/strict';
import { createClient, BasicClientSideCache } from 'redis';
import { PORTS, eventually } from './common.mjs';

const url = (index) => `redis://127.0.0.1:${PORTS[index]}`;
const connect = async (options) => {
  const client = createClient(options);
  client.on('error', () => {}); // A killed connection reconnects.
  return client.connect();
};
for (const RESP of [undefined, 2, 3]) {
  const one = await connect({ url: url(0), ...(RESP && { RESP }) });
  await one.flushAll();
  assert.equal(await one.set('k', 'v', { EX: 60 }), 'OK');
  assert.equal(await one.get('k'), 'v');
  assert.equal(await one.ttl('k'), 60);
  assert.deepEqual(await one.multi().set('m', '1').get('m').mGet(['m', 'none']).exec(), ['OK', '1', ['1', null]]);
  await one.mSet(Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`s:${i}`, `${i}`])));
  const found = [];
  for await (const keys of one.scanIterator({ MATCH: 's:*', COUNT: 7 })) found.push(...keys);
  assert.equal(found.length, 100);
  assert.equal(await one.expire('k', 10), 1);
  assert.equal(await one.del(['k', 'none']), 1);
  assert.equal((await one.configGet('max*')).maxclients, '1000');
  await assert.rejects(one.incr('m'), /UNSUPPORTED 'incr'.*last writer wins/);
  await assert.rejects(one.multi().set('refused', '1').incr('m').exec());
  assert.equal(await one.get('refused'), null);
  await one.close();
}
console.log('node-redis');

const cache = new BasicClientSideCache();
const reader = await connect({ url: url(0), RESP: 3, clientSideCache: cache });
const [plain, writer] = await Promise.all([0, 1].map((index) => connect({ url: url(index) })));
await writer.set('k', 0);
await eventually(async () => (await reader.get('k')) === '0', 'the first write');
const hits = cache.stats().hitCount;
for (let i = 0; i < 100; i++) assert.equal(await reader.get('k'), '0');
// The message about the first write may arrive after the first read, which costs one more.
assert.ok(cache.stats().hitCount - hits >= 90, 'reads come from memory');

const times = [];
for (let value = 1; value <= 200; value++) {
  await writer.set('k', value);
  const start = performance.now();
  await eventually(async () => (await reader.get('k')) === `${value}`, `value ${value}`);
  times.push(performance.now() - start);
}
times.sort((a, b) => a - b);
const [median, most] = [100, 198].map((index) => times[index].toFixed(1));
console.log(`node-redis's cache, after a write on another node: median ${median} ms, 99 % ${most} ms old`);

for (const change of [() => writer.del('k'), () => writer.set('k', 'short', { PX: 300 }), () => writer.flushAll()]) {
  await writer.set('k', 'before');
  await eventually(async () => (await reader.get('k')) === 'before', 'the value');
  await change();
  await eventually(async () => (await reader.get('k')) === null, `after ${change}`);
}

await writer.set('k', 'before');
await eventually(async () => (await reader.get('k')) === 'before', 'the last write');
const clients = await plain.sendCommand(['CLIENT', 'LIST']);
const tracked = [...clients.matchAll(/^id=(\d+) .* flags=t /gm)].map((match) => match[1]);
assert.equal(tracked.length, 1, clients);
const lost = new Promise((noticed) => reader.once('reconnecting', noticed));
assert.equal(await plain.sendCommand(['CLIENT', 'KILL', 'ID', tracked[0]]), 1);
await lost;
await writer.set('k', 'after');
await eventually(async () => (await plain.get('k')) === 'after', 'the write meanwhile');
// The message about the write was lost with the connection. The old value must be lost as well.
assert.equal(await reader.get('k'), 'after');
await Promise.all([reader, plain, writer].map((client) => client.close()));
