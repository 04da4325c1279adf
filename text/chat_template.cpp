// Chat templates: the front of the Jinja engine in text/jinja. Messages and variables go in as JSON, whose
// texts the template did not write; what comes out says which bytes the template wrote.

#include <memory>
#include <utility>

#include "base/error.h"
#include "base/text.h"
#include "text/jinja/evaluator.h"
#include "text/jinja/parser.h"
#include "text/text.h"

namespace sluice::text {
namespace {

using jinja::Machine;
using jinja::Value;

// Malformed UTF-8 becomes U+FFFD, because the engine walks through texts character by character.
std::string valid_utf8(const std::string& text) {
  if (base::is_utf8(text)) return text;
  std::string result;
  for (std::string_view rest = text; !rest.empty();) {
    const int bytes = base::utf8_length(rest);
    if (bytes > 0) {
      result += rest.substr(0, static_cast<std::size_t>(bytes));
      rest.remove_prefix(static_cast<std::size_t>(bytes));
    } else {
      result += "\uFFFD";
      rest.remove_prefix(1);
    }
  }
  return result;
}

Value number_value(const format::Json& json) {
  // A number that was written with a point stays a float.
  if (json.is_integer()) return json.as_int("template variables");
  return json.as_double("template variables");
}

Value to_value(Machine& machine, const format::Json& json) {
  machine.budget.step();
  if (json.is_null()) return {};
  if (json.is_string()) return jinja::make_string(machine.budget, valid_utf8(json.as_string("text")));
  if (json.is_number()) return number_value(json);
  if (json.is_array()) {
    jinja::Values items;
    for (const format::Json& item : json.as_array("array")) items.push_back(to_value(machine, item));
    return machine.list(std::move(items));
  }
  if (!json.is_object()) return json.as_bool("truth value");
  jinja::MappingBuilder builder(machine.budget);
  for (const auto& [key, member] : json.as_object("object"))
    builder.set(jinja::make_string(machine.budget, valid_utf8(key)), to_value(machine, member));
  return builder.take();
}

Value trusted_value(Machine& machine, const std::string& text) {
  return machine.text(jinja::marked(valid_utf8(text), true));
}

}  // namespace

struct ChatTemplate::Impl {
  std::string source;
  std::string subject;
  jinja::Statements statements;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string_view subject)
    : impl_(std::make_unique<Impl>()) {
  if (source.size() > jinja::kTemplateBytesMax)
    base::throw_malformed(subject, "is a template of " + std::to_string(source.size()) + " bytes, at most " +
                                       std::to_string(jinja::kTemplateBytesMax) + " are allowed");
  if (!base::is_utf8(source)) base::throw_malformed(subject, "is a template that is not UTF-8");
  impl_->source = jinja::normalize_line_ends(source);
  impl_->subject = subject;
  impl_->statements = jinja::parse(impl_->source, subject);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;

MarkedText ChatTemplate::render(const ChatContext& context) const {
  jinja::Evaluator evaluator(impl_->subject, context.unix_time_s);
  Machine& machine = evaluator.machine();
  try {
    // As transformers calls templates.
    for (const char* name : {"tools", "documents"}) evaluator.define(name, Value());
    for (const auto& [name, value] : context.variables.as_object("template variables"))
      evaluator.define(name, to_value(machine, value));
    evaluator.define("messages", to_value(machine, context.messages));
    evaluator.define("add_generation_prompt", Value(context.add_generation_prompt));
    if (context.bos_token) evaluator.define("bos_token", trusted_value(machine, *context.bos_token));
    if (context.eos_token) evaluator.define("eos_token", trusted_value(machine, *context.eos_token));
  } catch (const jinja::Fault& fault) {
    throw base::Error(base::ErrorKind::usage,
                      impl_->subject + ": the conversation cannot be given: " + fault.message);
  }
  return evaluator.render(impl_->statements);
}

}  // namespace sluice::text
