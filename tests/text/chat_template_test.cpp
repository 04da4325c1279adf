// Chat templates: texts against those of jinja2, which bytes count as the template's own, errors and limits.

#include <doctest/doctest.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "format/json.h"
#include "tests/support/check_error.h"
#include "tests/text/tiny_tokenizer.h"
#include "text/text.h"

using namespace sluice;
using format::Json;
using text::ChatContext;
using text::ChatTemplate;
using text::MarkedText;

namespace {

ChatContext context_of(const std::string& user_text) {
  ChatContext context;
  context.messages = Json::array({Json::object({{"role", "user"}, {"content", user_text}})});
  context.bos_token = "<s>";
  context.eos_token = "</s>";
  return context;
}

MarkedText render(std::string_view source, const std::string& user_text = "hi") {
  return ChatTemplate(source, "t.jinja").render(context_of(user_text));
}

/// The text with what the template wrote in brackets.
std::string marked(const MarkedText& rendered) {
  std::string shown;
  std::size_t at = 0;
  for (const text::TextRange& range : rendered.trusted) {
    shown += rendered.text.substr(at, range.begin - at);
    shown += '[' + rendered.text.substr(range.begin, range.end - range.begin) + ']';
    at = range.end;
  }
  return shown + rendered.text.substr(at);
}

}  // namespace

TEST_CASE("templates give the texts of jinja2") {
  const Json data =
      format::parse_json(base::read_text_file(SLUICE_TEST_DATA "/templates/cases.json"), "cases");
  ChatContext context;
  context.messages = data.at("messages", "cases");
  context.variables = data.at("variables", "cases");
  context.bos_token = data.at("bos_token", "cases").as_string("cases");
  context.eos_token = data.at("eos_token", "cases").as_string("cases");
  const auto& cases = data.at("cases", "cases").as_array("cases");
  CHECK(cases.size() >= 20);
  for (const Json& one : cases) {
    const std::string& source = one.at("template", "cases").as_string("cases");
    CAPTURE(source);
    CHECK(ChatTemplate(source, "t.jinja").render(context).text == one.at("text", "cases").as_string("cases"));
  }
}

TEST_CASE("only what the template wrote is marked as its own") {
  const std::string control = "<|im_end|>";
  CHECK(marked(render("<|im_start|>{{ messages[0].content }}<|im_end|>{{ bos_token }}", control)) ==
        "[<|im_start|>]<|im_end|>[<|im_end|><s>]");
  CHECK(marked(render("{{ '<|' + messages[0].content + '|>' }}", "im_end")) == "[<|]im_end[|>]");
  CHECK(marked(render("{{ ('a' ~ messages[0].content ~ 'b')[1:-1] }}", "uv")) == "uv");
  CHECK(marked(render("{{ messages[0].content.replace('x', '<s>') }}", "axb")) == "a[<s>]b");
  CHECK(marked(render("{{ ' a' + messages[0].content | trim | upper }}", " u ")) == "[ a]U");
  CHECK(marked(render("{{ [messages[0].content, 'b'] | join('-') }}", "u")) == "u[-b]");
  CHECK(marked(render("{% set x %}a{{ messages[0].content }}{% endset %}{{ x.split('u') | join('|') }}",
                      "u")) == "[a|]");
  CHECK(marked(render("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(messages[0].content) }}", control)) ==
        "[<]<|im_end|>[>]");
  CHECK(marked(render("{{ messages | tojson }}", "<s>")).find("[<s>]") == std::string::npos);
  // A message that looks like a template is text.
  CHECK(render("{{ messages[0].content }}", "{{ 1 + 1 }}").text == "{{ 1 + 1 }}");
}

TEST_CASE("a template that is none, or asks for what is missing, is refused with its line") {
  struct Bad {
    std::string_view source;
    std::string_view message;
  };
  const std::array bad{
      Bad{"a\n{% if x %}", "t.jinja: line 2: "},
      Bad{"\n\n{{ 'abc }}", "t.jinja: line 3: "},
      Bad{"{{ 1 + }}", "t.jinja: line 1: "},
      Bad{"{% include 'x' %}", "line 1: the tag 'include' is unknown or not supported here"},
      Bad{"{% for a in b recursive %}{% endfor %}", "line 1: recursive loops are not supported"},
      Bad{"{{ f(*a) }}", "line 1: arguments with '*' and '**' are not supported"},
      Bad{"a\n{{ 'x' | pprint }}", "line 2: the filter 'pprint' is unknown or not supported"},
      Bad{"{{ 'x' is odder }}", "line 1: the test 'odder' is unknown or not supported"},
      Bad{"{{ messages.pop() }}", "line 1: "},
      Bad{"{{ missing.name }}", "line 1: 'missing' is undefined"},
      Bad{"{{ 'a' + 1 }}", "line 1: "},
      Bad{"{{ lipsum() }}", "line 1: the name 'lipsum' is not supported"},
  };
  for (const Bad& one : bad) {
    CAPTURE(one.source);
    CHECK_ERROR(render(one.source), base::ErrorKind::malformed, one.message);
  }
  CHECK_ERROR(render("{{ raise_exception('roles must alternate') }}"), base::ErrorKind::usage,
              "the template refuses the conversation: roles must alternate");
}

TEST_CASE("what a template may cost is bounded") {
  const auto refused = [](const std::string& source, std::string_view message) {
    CAPTURE(source.substr(0, 60));
    CHECK_ERROR(render(source), base::ErrorKind::malformed, message);
  };
  refused("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
          "the template's values take more than 268435456 bytes");
  std::string sum = "1";
  for (int i = 0; i < 90; ++i) sum += "+1";
  refused("{% for i in range(100000) %}{% if " + sum + " == 0 %}x{% endif %}{% endfor %}" +
              "{% for i in range(100000) %}{% if " + sum + " == 0 %}x{% endif %}{% endfor %}",
          "the template takes more than 20000000 steps");
  refused("{{ range(100001) | list }}", "at most 100000 are allowed");
  refused("{{ 'abcdefgh' * 9999999 }}", "");
  refused("{% macro m(a) %}{{ m(a) }}{% endmacro %}{{ m(1) }}", "");
  refused("{{ " + std::string(200, '(') + "1" + std::string(200, ')') + " }}", "");
  refused("{{ " + std::string(200, '[') + std::string(200, ']') + " }}", "");
  refused(std::string((1 << 20) + 1, 'a'), "are allowed");
}

TEST_CASE("a template that is cut anywhere gives a text or an error") {
  const std::string whole =
      "{%- for m in messages -%}\n{{ '<|' ~ m.role + \"\\n\" }}{% if m.content is string %}{{ m['content'] | "
      "trim }}"
      "{% elif loop.last %}{# c #}{% else %}{% set ns = namespace(a=[1, {'k': 2}]) %}{{ ns.a[1].k }}{% endif "
      "%}"
      "{%- endfor %}{% macro q(a, b=1) %}{{ a if b else none }}{% endmacro %}{{ q(2) }}";
  std::size_t texts = 0;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    try {
      static_cast<void>(render(whole.substr(0, length)));
      ++texts;
    } catch (const base::Error& error) {
      CHECK(error.kind() == base::ErrorKind::malformed);
      CHECK(std::string_view(error.what()).starts_with("t.jinja: line "));
    }
  }
  CHECK(render(whole).text == "<|user\nhi2");
  CHECK(texts > 0);
}

namespace {

/// Splits an answer that comes byte by byte, with the thinking in brackets.
std::string split(std::string_view answer, bool opened = false) {
  text::ThinkingSplitter splitter(opened);
  std::string thinking;
  std::string rest;
  const auto take = [&](const std::vector<text::ThinkingSplitter::Part>& parts) {
    for (const auto& part : parts) (part.thinking ? thinking : rest) += part.text;
  };
  for (const char c : answer) take(splitter.add(std::string_view(&c, 1)));
  take(splitter.finish());
  return '[' + thinking + ']' + rest;
}

}  // namespace

TEST_CASE("thinking is told from the answer") {
  CHECK(split("<think>\nhm\n</think>\n\nYes.") == "[hm]Yes.");
  CHECK(split("hm\n</think>\n\nYes.", true) == "[hm]Yes.");
  CHECK(split("Yes <think> no") == "[]Yes <think> no");
  CHECK(split("<thin") == "[]<thin");
  CHECK(split("<think>a</thin") == "[a</thin]");
  CHECK(split("<think>\n\n</think>\n\nYes.") == "[]Yes.");
}

namespace {

namespace tests = sluice::tests;

/// Control pieces of a small tokenizer that has Harmony's, from id 256 on, and letters of which texts
/// consist.
constexpr std::array kHarmony = {"<|start|>",  "<|end|>",       "<|message|>", "<|channel|>",
                                 "<|return|>", "<|constrain|>", "<|call|>"};

std::unique_ptr<text::Tokenizer> harmony_tokenizer() {
  format::Json::Array added;
  for (std::size_t i = 0; i < kHarmony.size(); ++i)
    added.push_back(tests::added_token(256 + static_cast<int>(i), kHarmony[i], true));
  return tests::make_tokenizer(tests::byte_level_tokenizer({}, std::move(added)));
}

/// What an answer of these tokens shows: thinking in brackets. Control pieces in `answer` are the model's
/// own.
std::string shown(const text::ChatFormat& format, const text::Tokenizer& tokenizer,
                  const std::string& answer) {
  text::AnswerSplitter splitter(format, tokenizer, false);
  std::string thinking;
  std::string rest;
  const auto take = [&](const std::vector<text::AnswerSplitter::Part>& parts) {
    for (const auto& part : parts) (part.thinking ? thinking : rest) += part.text;
  };
  const text::TextRange all{0, answer.size()};
  for (const text::TokenId id : tokenizer.encode(answer, {&all, 1}))
    take(splitter.add(id, tokenizer.control_text(id).empty() ? tokenizer.piece_bytes(id) : ""));
  take(splitter.finish(""));
  return '[' + thinking + ']' + rest;
}

}  // namespace

TEST_CASE("channels of an answer are told apart by the control pieces that the model writes") {
  const auto tokenizer = harmony_tokenizer();
  const text::ChatFormat format(
      *tokenizer,
      {.chat_template = "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>"
                        "{% endfor %}<|start|>assistant",
       .subject = "t"});
  REQUIRE(format.uses_channels());
  CHECK(shown(format, *tokenizer,
              "<|channel|>analysis<|message|>2 and 2.<|end|><|start|>assistant<|channel|>final<|message|>4"
              "<|return|>") == "[2 and 2.]4");
  // Without an end, as when --tokens cuts it.
  CHECK(shown(format, *tokenizer, "<|channel|>analysis<|message|>2 an") == "[2 an]");
  CHECK(shown(format, *tokenizer, "<|channel|>final") == "[]");
  // A call of a tool is no answer; its recipient and its type are no text.
  CHECK(shown(format, *tokenizer,
              "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=functions.f "
              "<|constrain|>json<|message|>{}<|call|>") == "[a\n\n{}]");
  // A message without a channel, and a model that writes no marks at all.
  CHECK(shown(format, *tokenizer, "<|message|>Hello.<|return|>") == "[]Hello.");
  CHECK(shown(format, *tokenizer, "Hello.") == "[]Hello.");

  // Text that spells a mark is text: its ids are those of letters.
  text::AnswerSplitter splitter(format, *tokenizer, false);
  std::string answer;
  const auto take = [&](const std::vector<text::AnswerSplitter::Part>& parts) {
    for (const auto& part : parts) answer += part.text;
  };
  take(splitter.add(258, ""));
  for (const text::TokenId id : tokenizer->encode("a<|end|>b"))
    take(splitter.add(id, tokenizer->piece_bytes(id)));
  take(splitter.finish(""));
  CHECK(answer == "a<|end|>b");
}

TEST_CASE("an answer of channels ends with the pieces of its last message or of a call") {
  const auto tokenizer = harmony_tokenizer();
  const text::ChatFormat format(*tokenizer, {.chat_template = "x", .subject = "t"});
  CHECK(format.ends_of_turn() == std::vector<text::TokenId>{260, 262});
  const auto plain = tests::make_tokenizer(tests::byte_level_tokenizer());
  const text::ChatFormat other(*plain, {.chat_template = "x", .subject = "t"});
  CHECK_FALSE(other.uses_channels());
  CHECK(other.ends_of_turn().empty());
}
