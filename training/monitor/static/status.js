// How a run is, in a word and as a part of the whole.

const WORDS = { silent: "no news", crashed: "crashed", stopped: "stopped", finished: "finished" };

export function statusOf(run) {
  if (run.health === "running") return { preparing: "preparing", trained: "evaluating" }[run.state.status] ?? "training";
  return WORDS[run.health] ?? run.health;
}

export function progressOf(run) {
  const { status, step, steps } = run.state;
  if (run.health === "finished" || status === "trained") return 1;
  return step && steps ? Math.min(step / steps, 1) : 0;
}
