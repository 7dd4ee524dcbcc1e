/* What JupyterLab's services report about the kernel: restarts, ends and a lost connection. */

// Other pages see "starting" when one page restarts the kernel.
const REASONS = { restarting: "restarted", autorestarting: "restarted", starting: "restarted", dead: "dead", terminating: "ended" };

/** Call `lose` with the reason when the kernel goes, and `connecting` with whether the connection is lost; returns what ends this. */
export function watchKernel(kernel, { lose, connecting }) {
  if (!kernel?.statusChanged?.connect) return () => {};
  const status = () => Object.hasOwn(REASONS, kernel.status) && lose(REASONS[kernel.status]);
  const connection = () => connecting(kernel.connectionStatus !== "connected");
  kernel.statusChanged.connect(status);
  kernel.connectionStatusChanged?.connect(connection);
  return () => {
    kernel.statusChanged.disconnect(status);
    kernel.connectionStatusChanged?.disconnect(connection);
  };
}
