// What a confined Node runs (`node -e`): waits for one job on descriptor 3, runs it, answers, and ends. See node_keeper.py.
//
// The author's program is evaluated as Dify's sandbox does it: by a direct eval in sloppy mode inside a CommonJS module,
// with `fs` at hand. Errors of it come to `uncaughtException`.
// Nothing here is a wall: the program may change any of it. What is needed afterwards is taken before it begins.
globalThis.__headrace = (() => {
  const { readSync, writeSync } = require('fs');
  const { stringify, parse } = JSON;
  const { from, alloc, concat } = Buffer;
  const exit = process.reallyExit.bind(process);
  const resources = process.resourceUsage.bind(process);
  const [own, needs] = [module, require];
  const OUTLET = 3;

  const exactly = (size) => {
    const bytes = alloc(size);
    for (let at = 0; at < size; ) {
      const count = readSync(OUTLET, bytes, at, size - at);
      if (!count) exit(0);
      at += count;
    }
    return bytes;
  };
  const write = (bytes) => {
    for (let at = 0; at < bytes.length; ) at += writeSync(OUTLET, bytes, at);
  };
  let most = 0;
  const answer = (sign, text) => {
    let body = from(text, 'utf8');
    if (body.length > most) {
      sign = 'E';
      body = from(`The result is larger than ${most} bytes.`);
    }
    const head = alloc(5);
    head.write(sign, 0);
    head.writeUInt32BE(body.length, 1);
    write(concat([head, body]));
    exit(0);
  };
  const shown = (error) => {
    if (!(error instanceof Error)) return `Uncaught ${String(error)}`;
    const lines = String(error.stack).split('\n');
    const ours = lines.findIndex((line) => /^ +at .*(\[eval\]|internal\/main\/eval_string)/.test(line));
    const text = (ours < 0 ? lines : lines.slice(0, ours)).join('\n');
    const own = text.replace(/^.*\n;__headrace\(main\)\n.*\n\n/, ''); // a line that is not the author's
    return error.cause === undefined ? own : `${own}\n[cause]: ${shown(error.cause)}`;
  };
  const fail = (error) => {
    let text = 'An error that cannot be shown.';
    try {
      text = shown(error).slice(-20000);
    } catch {}
    answer('E', text);
  };
  const take = (main, inputs) => {
    const done = (value) => answer('R', stringify(value) ?? 'null');
    const value = main(parse(inputs));
    if (value !== null && typeof value === 'object' && typeof value.then === 'function') value.then(done).catch(fail);
    else done(value);
  };

  for (const name of ['log', 'info', 'warn', 'error', 'debug', 'trace', 'dir', 'table']) console[name] = () => {};
  const memoryUsage = () => {
    // the real one reads /proc
    const { total_heap_size, used_heap_size, external_memory } = needs('v8').getHeapStatistics();
    const rss = resources().maxRSS * 1024;
    return { rss, heapTotal: total_heap_size, heapUsed: used_heap_size, external: external_memory, arrayBuffers: 0 };
  };
  process.memoryUsage = Object.assign(memoryUsage, { rss: () => memoryUsage().rss });
  process.on('uncaughtException', fail);
  process.on('unhandledRejection', fail);
  process.on('beforeExit', () => answer('E', 'main returned a promise that never settles.'));
  process.on('exit', () => answer('E', 'The code ended the process before main came to a result.'));
  process.argv.length = 1;
  // `node -e` has every module as a global, and those of CommonJS; a file has not
  const globals = ['console', 'crypto', 'fs', 'process'];
  const extra = require('module').builtinModules.filter((name) => !globals.includes(name));
  for (const name of [...extra, 'exports', 'module', 'require', '__filename', '__dirname']) delete globalThis[name];

  // from here on the supervisor refuses what only a start needs; where it does not answer, nothing runs
  let heard = true;
  try {
    needs('os').getPriority();
  } catch {
    heard = false;
  }
  if (!heard && '%SUPERVISED%' === 'True') exit(1);
  write(from('r'));
  const job = parse(exactly(exactly(4).readUInt32BE(0)).toString('utf8'));
  most = job.most;
  write(from('b'));
  const call = (program) => program.call(own.exports, own.exports, needs, own, '/main.js', '/');
  return { call, code: `${job.code}\n;__headrace(main)\n//# sourceURL=main.js`, take: (main) => take(main, job.inputs) };
})();
__headrace.call(function (exports, require, module, __filename, __dirname) {
  eval(
    ((boot) => {
      Object.defineProperty(globalThis, '__headrace', {
        configurable: true,
        get() {
          delete globalThis.__headrace;
          return boot.take;
        },
      });
      return boot.code;
    })(__headrace),
  );
});
