// What the front end's plain files must hold to. They run as they are written, in a page that also
// shows what an agent wrote, so what makes code or markup of a string needs a reason in the file.

import js from "@eslint/js";
import globals from "globals";

// `innerHTML` may be right here and there, for HTML that the kernel has made safe. Then a directive says
// so; tests/panel/test_static.py reads those, because one that is too wide could switch off a rule about it.
const MARKUP = "It makes markup of a string. Build nodes, or use textContent.";

export default [
  { linterOptions: { reportUnusedDisableDirectives: "error" } },
  js.configs.recommended,
  {
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: globals.browser },
    rules: {
      "array-callback-return": "error",
      eqeqeq: "error",
      "no-alert": "error",
      "no-constructor-return": "error",
      "no-eval": "error",
      "no-implicit-globals": "error",
      "no-implied-eval": "error",
      "no-new-func": "error",
      "no-promise-executor-return": "error",
      "no-script-url": "error",
      "no-self-compare": "error",
      "no-shadow": "error",
      "no-throw-literal": "error",
      "no-unmodified-loop-condition": "error",
      "no-unreachable-loop": "error",
      "no-unused-expressions": "error",
      "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
      "no-useless-concat": "error",
      "no-var": "error",
      "prefer-const": "error",
      "prefer-promise-reject-errors": "error",
      "no-restricted-properties": [
        "error",
        ...[
          "createContextualFragment",
          "innerHTML",
          "insertAdjacentHTML",
          "outerHTML",
          "parseFromString",
          "parseHTMLUnsafe",
          "setHTMLUnsafe",
          "srcdoc",
        ].map(property => ({ property, message: MARKUP })),
        { object: "document", property: "write", message: MARKUP },
        { object: "document", property: "writeln", message: MARKUP },
      ],
      "no-restricted-syntax": [
        "error",
        { selector: "ImportExpression", message: "What runs in the page is what the package ships." },
        { selector: "Identifier[name=/^(Async)?(Generator)?Function$/]", message: "It makes code of a string." },
      ],
    },
  },
];
