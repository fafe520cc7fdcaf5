/** Look again and again while somebody can see the page. */

/**
 * Call `look` now, and again after as many seconds as it returns; null: not again.
 *
 * Nothing is asked while the tab is hidden. When it is shown again, the first look is immediate.
 */
export function poll(look) {
  let timer = 0;
  let round = null;

  function pause() {
    clearTimeout(timer);
    round?.abort();
  }

  async function now() {
    pause();
    if (document.hidden) return;
    const mine = new AbortController();
    round = mine;
    const seconds = await look(mine.signal);
    if (seconds !== null && !mine.signal.aborted) timer = setTimeout(now, 1000 * seconds);
  }

  const onVisibility = () => (document.hidden ? pause() : now());
  document.addEventListener("visibilitychange", onVisibility);
  void now();
  return {
    now,
    stop() {
      pause();
      document.removeEventListener("visibilitychange", onVisibility);
    },
  };
}
