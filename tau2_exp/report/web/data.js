// Episodes beside the page: an index of all of them, and chunks that are loaded when an episode of theirs is asked for.

const KEPT = 12; // chunks held in memory
const arriving = new Map(); // name → what to do with the data of its script

window.tau2_episodes = (name, data) => arriving.get(name)(data);

function loadScript(folder, name) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    arriving.set(name, resolve);
    script.src = `${folder}/${name}.js`;
    script.onload = () => script.remove();
    script.onerror = () =>
      reject(new Error(`${folder}/${name}.js is missing: keep the folder ${folder} beside this page.`));
    document.head.append(script);
  });
}

async function inflate(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

class Episodes {
  static async open(folder) {
    return new Episodes(folder, await loadScript(folder, "index"));
  }

  constructor(folder, index) {
    this.folder = folder;
    this.index = index;
    this.kept = new Map(); // chunk → promise of its episodes, the longest unused first
    this.rows = [];
    index.files.forEach((file, place) => {
      const end = place + 1 < index.files.length ? index.files[place + 1].first : index.count;
      for (let i = file.first; i < end; i++) this.rows.push(this.row(i, file));
    });
    this.byId = new Map(this.rows.map((row) => [row.id, row]));
  }

  row(i, file) {
    const { names, columns, runs } = this.index;
    const run = runs[file.run];
    const task = names.task[columns.task[i]];
    return {
      i,
      id: `${run.name}/${file.name}/${i - file.first + 1}`,
      run,
      file,
      task,
      domain: task.slice(0, task.indexOf("/")),
      stop: names.stop[columns.stop[i]],
      fault: names.fault[columns.fault[i]],
      modes: columns.modes[i].map((mode) => names.modes[mode]),
      sample: columns.sample[i],
      step: columns.step[i],
      outcome: columns.outcome[i],
      shaped: columns.shaped[i],
      turns: columns.turns[i],
    };
  }

  // The whole episode of a row.
  async whole(row) {
    const { chunks } = this.index;
    let chunk = 0;
    while (chunk + 1 < chunks.length && chunks[chunk + 1] <= row.i) chunk++;
    return (await this.chunk(chunk))[row.i - chunks[chunk]];
  }

  chunk(number) {
    const found = this.kept.get(number) || loadScript(this.folder, String(number).padStart(5, "0")).then(inflate);
    this.kept.delete(number);
    this.kept.set(number, found);
    found.catch(() => this.kept.delete(number)); // so that it can be asked for again
    if (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
    return found;
  }
}
