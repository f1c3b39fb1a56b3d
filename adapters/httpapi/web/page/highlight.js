// Highlights code: comments, strings, numbers, keywords and calls. It knows
// families of languages rather than grammars, which is enough to read by.

const words = (text) => new Set(text.split(' '))
const common = 'if else for while do break continue return switch case default true false null new this class const static void import export try catch finally throw in of'
const families = {
  c: {
    comment: /\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/y,
    keywords: words(common + ' let var function async await yield typeof instanceof extends implements interface type enum public private protected readonly abstract delete undefined ' +
      'func package defer go chan select struct map range nil fallthrough fn mut pub impl trait match use mod crate self Self where dyn move ref unsafe loop as int long short float double char bool byte string ' +
      'auto unsigned signed sizeof typedef union volatile template typename namespace using virtual override final val object when is fun companion data sealed internal guard protocol extension init'),
  },
  hash: {
    comment: /#[^\n]*/y,
    keywords: words('if elif else for while break continue return def class lambda import from as with try except finally raise pass yield async await in is not and or None True False global nonlocal del assert ' +
      'then fi do done case esac function local export echo begin end module require unless until rescue ensure self nil true false null include FROM RUN COPY ENV CMD ENTRYPOINT WORKDIR EXPOSE ARG'),
  },
  sql: {
    comment: /--[^\n]*|\/\*[\s\S]*?(?:\*\/|$)/y, insensitive: true,
    keywords: words('select from where insert into values update set delete create table index view drop alter add column primary key foreign references unique not null default join left right inner outer full cross on as and or in is like ' +
      'between exists group by order having limit offset union all distinct case when then else end begin commit rollback with recursive returning conflict do nothing using explain analyze true false'),
  },
  markup: { comment: /<!--[\s\S]*?(?:-->|$)/y, keywords: words(''), tags: true },
  css: { comment: /\/\*[\s\S]*?(?:\*\/|$)/y, keywords: words('important inherit initial unset auto none') },
  json: { comment: /\/\/[^\n]*/y, keywords: words('true false null') },
}
const languages = {}
for (const [family, names] of Object.entries({
  c: 'js javascript jsx ts typescript tsx mjs go golang rust rs java kotlin kt swift c h cpp c++ cc cs csharp php scala dart zig proto graphql',
  hash: 'py python sh bash shell zsh console rb ruby yaml yml toml ini conf dockerfile docker make makefile perl r elixir nix',
  sql: 'sql postgres postgresql sqlite mysql plpgsql', markup: 'html xml svg vue svelte', css: 'css scss less', json: 'json json5 jsonc',
})) for (const name of names.split(' ')) languages[name] = families[family]

const text = /"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\.|[^`\\])*`?/y
const number = /\b(?:0[xX][\da-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?)\b/y
const word = /[A-Za-z_$][\w$]*/y
const tag = /<\/?[A-Za-z][\w:-]*|\/?>/y

// longest is the length of code beyond which it stays plain: the page must not
// stall on it.
const longest = 20_000

export function highlight(el, language) {
  const rules = languages[language.toLowerCase()]
  const code = el.textContent
  if (!rules || code.length > longest) return
  const out = document.createDocumentFragment()
  let plain = ''
  const add = (kind, value) => {
    if (!kind) {
      plain += value
      return
    }
    if (plain) out.append(plain)
    plain = ''
    const span = document.createElement('span')
    span.className = 'tok-' + kind
    span.textContent = value
    out.append(span)
  }
  const at = (pattern, i) => {
    pattern.lastIndex = i
    return pattern.exec(code)?.[0]
  }
  for (let i = 0; i < code.length;) {
    let found
    if ((found = at(rules.comment, i))) add('comment', found)
    else if (rules.tags && (found = at(tag, i))) add('keyword', found)
    else if ((found = at(text, i)) && found.length > 1) add('string', found)
    else if ((found = at(number, i))) add('number', found)
    else if ((found = at(word, i))) {
      const known = rules.keywords.has(rules.insensitive ? found.toLowerCase() : found)
      add(known ? 'keyword' : code[i + found.length] === '(' ? 'call' : '', found)
    } else add('', (found = code[i]))
    i += found.length
  }
  if (plain) out.append(plain)
  el.replaceChildren(out)
}
