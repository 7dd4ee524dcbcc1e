// The rules for the front end's files. They run unchanged in a page that also shows text from an agent, so
// code that turns a string into code or markup needs a reason in the file.

import js from "@eslint/js";
import globals from "globals";

// `innerHTML` is right only for HTML that the kernel has sanitised. A directive then says so;
// tests/panel/test_static.py checks that each directive is for one line and one rule.
const MARKUP = "This turns a string into markup. Build nodes, or use textContent.";

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
        { selector: "ImportExpression", message: "Only code from the package may run in the page." },
        { selector: "Identifier[name=/^(Async)?(Generator)?Function$/]", message: "This turns a string into code." },
      ],
    },
  },
];
