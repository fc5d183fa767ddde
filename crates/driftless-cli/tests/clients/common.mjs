// What the JavaScript clients share: the ports of the nodes, and waiting for other nodes.
import assert from 'node:assert/strict';

export const PORTS = process.env.DRIFTLESS_PORTS.split(',').map(Number);
// Only a failing test waits that long.
const SOON = 10_000;

/** Calls `look` until it returns something true. */
export async function eventually(look, what) {
  const end = performance.now() + SOON;
  for (;;) {
    const found = await look();
    if (found) return found;
    assert.ok(performance.now() < end, `still not after ${SOON} ms: ${what}`);
    await new Promise((done) => setTimeout(done, 5));
  }
}
