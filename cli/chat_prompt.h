#pragma once
// From a conversation to the prompt that a model was trained on, and the sampling that its authors recommend:
// for `run --chat` and for conversations at a terminal.

#include <span>
#include <string>
#include <vector>

#include "cli/console.h"
#include "cli/run_options.h"
#include "format/json.h"
#include "runtime/runtime.h"
#include "text/text.h"

namespace sluice::cli {

/// Error{usage} for an entry that is not NAME=VALUE. A VALUE that is JSON counts as that (true, 3, ["a"]),
/// any other as a text.
[[nodiscard]] format::Json parse_chat_variables(std::span<const std::string> entries);

class ChatPrompt final {
 public:
  /// `model` must outlive the object. `subject` names it in errors. Error{usage} for variables that have no
  /// effect.
  ChatPrompt(const runtime::Model& model, const std::string& subject, const format::Json& variables);

  /// Ends where the model's answer begins. Error{usage} when the format refuses the conversation.
  [[nodiscard]] std::vector<runtime::TokenId> encode(std::span<const text::Message> conversation) const;

 private:
  text::ChatFormat format_;
};

/// Takes the recommended sampling over unless the user gave options of sampling, and says so.
void use_recommended_sampling(const runtime::Model& model, RunOptions& values, Console& console);

}  // namespace sluice::cli
