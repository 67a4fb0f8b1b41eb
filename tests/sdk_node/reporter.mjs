// One line of JSON a test: its name, whether it passed, and what went wrong.
import { inspect } from 'node:util';

export default async function* report(source) {
  for await (const { type, data } of source) {
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    if (data.details?.type === 'suite' || data.name.endsWith('.js')) continue; // a file is no test
    const error = data.details?.error;
    const told = error ? inspect(error.cause ?? error, { depth: 5 }) : null;
    const skipped = data.skip !== undefined || data.todo !== undefined;
    yield `${JSON.stringify({ name: data.name, passed: type === 'test:pass' && !skipped, error: told })}\n`;
  }
}
