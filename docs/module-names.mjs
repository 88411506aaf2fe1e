import { Converter } from 'typedoc';

/** Modules under the names by which they are imported, instead of the paths of their sources. */
export function load(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, (context) => {
    for (const module of context.project.children ?? []) {
      const match = /^([^/]+)\/src(?:\/(.+))?$/.exec(module.name);
      if (match) module.name = `@paravirt/${match[1]}${match[2] === undefined ? '' : `/${match[2]}`}`;
    }
  });
}
