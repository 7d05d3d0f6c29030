/** AbortSignals, heard by one listener each: Node warns of a leak when many calls share a signal and each adds its own. */

const heard = new WeakMap<AbortSignal, Set<() => void>>();

/** Runs something when the signal comes; not if it has come before. Returns what ends that. */
export function onAbort(signal: AbortSignal | undefined, run: () => void): () => void {
  if (!signal) return () => {};
  let runs = heard.get(signal);
  if (!runs) {
    const made = new Set<() => void>();
    signal.addEventListener("abort", () => [...made].forEach((one) => one()), { once: true });
    heard.set(signal, (runs = made));
  }
  const all = runs;
  all.add(run);
  return () => all.delete(run);
}
