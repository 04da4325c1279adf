// Marks are control pieces, which the caller tells from text by their ids, so no text has to be held back:
// the name of a channel is complete when the mark behind it comes.

#include <algorithm>
#include <array>

#include "text/text.h"

namespace sluice::text {
namespace {

constexpr std::string_view kStart = "<|start|>";
constexpr std::string_view kChannel = "<|channel|>";
constexpr std::string_view kConstrain = "<|constrain|>";
constexpr std::string_view kMessage = "<|message|>";
constexpr std::array kMarks = {kStart,
                               kChannel,
                               kConstrain,
                               kMessage,
                               std::string_view("<|end|>"),
                               std::string_view("<|return|>"),
                               std::string_view("<|call|>")};

/// A header's channel: the first word behind its mark. "commentary to=functions.weather" names a recipient,
/// too.
std::string_view channel_of(std::string_view header) {
  return header.substr(0, header.find_first_of(" \t\n"));
}

}  // namespace

bool ChannelSplitter::is_mark(std::string_view control_text) {
  return std::ranges::find(kMarks, control_text) != kMarks.end();
}

std::vector<ChannelSplitter::Part> ChannelSplitter::add(std::string_view text) {
  if (text.empty()) return {};
  if (state_ == State::header) {
    header_ += text;
    return {};
  }
  std::vector<Part> parts;
  bool& had_text = had_text_[thinking_ ? 1 : 0];
  if (begins_ && had_text) parts.push_back({"\n\n", thinking_});  // a further message of the kind
  begins_ = false;
  had_text = true;
  parts.push_back({std::string(text), thinking_});
  return parts;
}

void ChannelSplitter::mark(std::string_view control_text) {
  marked_ = true;
  if (control_text == kMessage) {
    const std::string_view channel = names_channel_ ? channel_of(header_) : std::string_view();
    thinking_ = !channel.empty() && channel != "final";
    begins_ = true;
    state_ = State::body;
    return;
  }
  // Anything else ends a message, or belongs to the header of the next one.
  state_ = State::header;
  if (control_text == kConstrain) {
    header_ += ' ';
    return;
  }
  header_.clear();
  names_channel_ = control_text == kChannel;
}

std::vector<ChannelSplitter::Part> ChannelSplitter::finish() {
  if (marked_ || header_.empty()) return {};
  return {{header_, false}};
}

AnswerSplitter::AnswerSplitter(const ChatFormat& format, const Tokenizer& tokenizer, bool opens_thinking)
    : tokenizer_(tokenizer), splitter_(ThinkingSplitter(opens_thinking)) {
  if (format.uses_channels()) splitter_ = ChannelSplitter();
}

std::vector<AnswerSplitter::Part> AnswerSplitter::add(TokenId id, std::string_view text) {
  const std::string control = tokenizer_.control_text(id);
  if (auto* channels = std::get_if<ChannelSplitter>(&splitter_)) {
    std::vector<Part> parts = channels->add(text);
    if (ChannelSplitter::is_mark(control)) channels->mark(control);
    return parts;
  }
  // Some tokenizers have the marks of thinking as control pieces, which have no text of their own.
  auto& thinking = std::get<ThinkingSplitter>(splitter_);
  const bool is_mark = control == "<think>" || control == "</think>";
  return thinking.add(std::string(text) + (is_mark ? control : ""));
}

std::vector<AnswerSplitter::Part> AnswerSplitter::finish(std::string_view rest) {
  return std::visit(
      [&](auto& splitter) {
        std::vector<Part> parts = splitter.add(rest);
        for (Part& part : splitter.finish()) parts.push_back(std::move(part));
        return parts;
      },
      splitter_);
}

}  // namespace sluice::text
