#include "text/values/value.h"

#include <algorithm>
#include <cmath>

#include "base/text.h"
#include "text/values/loop.h"
#include "text/values/marked.h"

namespace sluice::text::jinja {
namespace {

std::string not_iterable(const Value& value) {
  return "'" + std::string(value.type_name()) + "' object is not iterable";
}

int depth_of(const Value& value, int depth) { return std::max(depth, value.depth() + 1); }

void check_depth(int depth) {
  if (depth > kValueDepthMax)
    fail("a list or mapping holds more than " + std::to_string(kValueDepthMax) + " levels of others");
}

/// The exact order of an integer and a double: a conversion of the integer could round.
std::partial_ordering compare_mixed(std::int64_t left, double right) {
  if (std::isnan(right)) return std::partial_ordering::unordered;
  if (right >= 9223372036854775808.0) return std::partial_ordering::less;
  if (right < -9223372036854775808.0) return std::partial_ordering::greater;
  const double whole = std::floor(right);
  const auto whole_integer = static_cast<std::int64_t>(whole);
  if (left != whole_integer) return left <=> whole_integer;
  return whole < right ? std::partial_ordering::less : std::partial_ordering::equivalent;
}

std::partial_ordering flip(std::partial_ordering order) { return 0 <=> order; }

std::partial_ordering compare_numbers(const Value& left, const Value& right) {
  if (left.is_float() && right.is_float()) return left.number() <=> right.number();
  if (left.is_float()) return flip(compare_mixed(right.integer(), left.number()));
  if (right.is_float()) return compare_mixed(left.integer(), right.number());
  return left.integer() <=> right.integer();
}

bool equal_items(Budget& budget, const Values& left, const Values& right) {
  if (left.size() != right.size()) return false;
  for (std::size_t i = 0; i < left.size(); ++i)
    if (!equal(budget, left[i], right[i])) return false;
  return true;
}

bool equal_sequences(Budget& budget, const Sequence& left, const Sequence& right) {
  if (&left == &right) return true;
  if (left.kind != right.kind || left.kind == SequenceKind::generator || left.kind == SequenceKind::values)
    return false;
  if (left.has_subscripts()) return equal_items(budget, left.items, right.items);
  // Views of keys and items are sets.
  if (left.items.size() != right.items.size()) return false;
  return std::ranges::all_of(left.items, [&](const Value& item) {
    return std::ranges::any_of(right.items, [&](const Value& other) { return equal(budget, item, other); });
  });
}

bool equal_mappings(Budget& budget, const Mapping& left, const Mapping& right) {
  if (&left == &right) return true;
  if (left.members.size() != right.members.size()) return false;
  return std::ranges::all_of(left.members, [&](const auto& member) {
    const Value* other = find(budget, right, member.first);
    return other != nullptr && equal(budget, member.second, *other);
  });
}

bool is_hashable(const Value& value) {
  if (value.mapping() != nullptr) return false;
  const Sequence* sequence = value.sequence();
  if (sequence == nullptr) return true;
  if (sequence->kind == SequenceKind::tuple) return std::ranges::all_of(sequence->items, is_hashable);
  return sequence->kind == SequenceKind::range || sequence->kind == SequenceKind::generator;
}

void require_hashable(const Value& key) {
  if (!is_hashable(key)) fail("unhashable type: '" + std::string(key.type_name()) + "'");
}

// The members of a mapping are searched one after the other, so a search takes steps.
template <typename Members>
auto find_member(Budget& budget, Members& members, const Value& key) {
  budget.step(members.size() / 8);
  return std::ranges::find_if(members, [&](const auto& member) {
    if (key.is_string() && member.first.is_string()) return key.text() == member.first.text();
    if (key.is_string() != member.first.is_string()) return false;
    return equal(budget, member.first, key);
  });
}

}  // namespace

bool Value::is_callable() const { return macro() != nullptr || method() != nullptr || function() != nullptr; }

std::int64_t Value::integer() const {
  return is_bool() ? std::get<bool>(value_) : std::get<std::int64_t>(value_);
}

double Value::number() const {
  return is_float() ? std::get<double>(value_) : static_cast<double>(integer());
}

std::string_view Value::type_name() const {
  if (is_none()) return "NoneType";
  if (is_undefined()) return "Undefined";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return is_safe() ? "Markup" : "str";
  if (mapping() != nullptr) return "dict";
  if (name_space() != nullptr) return "Namespace";
  if (macro() != nullptr) return "Macro";
  if (loop() != nullptr) return "LoopContext";
  if (method() != nullptr) return "builtin_function_or_method";
  if (function() != nullptr) return "function";
  switch (sequence()->kind) {
    case SequenceKind::list: return "list";
    case SequenceKind::tuple: return "tuple";
    case SequenceKind::range: return "range";
    case SequenceKind::keys: return "dict_keys";
    case SequenceKind::values: return "dict_values";
    case SequenceKind::items: return "dict_items";
    case SequenceKind::generator: return "generator";
  }
  return "object";
}

int Value::depth() const {
  if (const Sequence* items = sequence()) return items->depth;
  if (const Mapping* members = mapping()) return members->depth;
  if (const Loop* state = loop()) return state->depth;
  if (const Method* bound = method()) return bound->self.depth() + 1;
  return 0;
}

Value* Namespace::find(std::string_view name) {
  const auto member = std::ranges::find(members, name, [](const auto& entry) { return entry.first; });
  return member == members.end() ? nullptr : &member->second;
}

Value make_string(Budget& budget, MarkedText text, bool safe) {
  if (text.text.size() > kTextBytesMax)
    fail("a text is longer than " + std::to_string(kTextBytesMax) + " bytes");
  budget.make(sizeof(String) + text.text.size());
  return std::make_shared<const String>(String{.marked = std::move(text), .safe = safe});
}

Value make_string(Budget& budget, std::string text) {
  return make_string(budget, MarkedText{.text = std::move(text), .trusted = {}});
}

Value make_sequence(Budget& budget, Values items, SequenceKind kind) {
  budget.make(sizeof(Sequence) + items.size() * sizeof(Value));
  auto sequence = std::make_shared<Sequence>();
  sequence->kind = kind;
  for (const Value& item : items) sequence->depth = depth_of(item, sequence->depth);
  check_depth(sequence->depth);
  sequence->items = std::move(items);
  return Value::SequencePointer(std::move(sequence));
}

Value make_undefined(std::string reason) {
  return Undefined{.reason = std::make_shared<const std::string>(std::move(reason))};
}

void MappingBuilder::set(Value key, Value value) {
  require_hashable(key);
  const auto member = find_member(budget_, mapping_->members, key);
  if (member == mapping_->members.end()) {
    add(std::move(key), std::move(value));
    return;
  }
  mapping_->depth = depth_of(value, mapping_->depth);
  member->second = std::move(value);
}

void MappingBuilder::add(Value key, Value value) {
  budget_.make(2 * sizeof(Value));
  mapping_->depth = depth_of(value, depth_of(key, mapping_->depth));
  mapping_->members.emplace_back(std::move(key), std::move(value));
}

Value MappingBuilder::take() {
  budget_.make(sizeof(Mapping));
  check_depth(mapping_->depth);
  return Value::MappingPointer(std::move(mapping_));
}

const Value* find(Budget& budget, const Mapping& mapping, const Value& key) {
  require_hashable(key);
  const auto member = find_member(budget, mapping.members, key);
  return member == mapping.members.end() ? nullptr : &member->second;
}

bool truth(const Value& value) {
  if (value.is_none() || value.is_undefined()) return false;
  if (value.is_integral()) return value.integer() != 0;
  if (value.is_float()) return value.number() != 0;
  if (value.is_string()) return !value.text().empty();
  if (const Mapping* mapping = value.mapping()) return !mapping->members.empty();
  if (const Sequence* sequence = value.sequence())
    return sequence->kind == SequenceKind::generator || !sequence->items.empty();
  return true;
}

bool equal(Budget& budget, const Value& left, const Value& right) {
  budget.step();
  if (left.is_number() && right.is_number()) return is_eq(compare_numbers(left, right));
  if (left.is_string() && right.is_string()) {
    budget.step(left.text().size() / 256);
    return left.text() == right.text();
  }
  if (left.is_none() || left.is_undefined())
    return left.is_none() == right.is_none() && left.is_undefined() == right.is_undefined();
  if (left.sequence() != nullptr && right.sequence() != nullptr)
    return equal_sequences(budget, *left.sequence(), *right.sequence());
  if (left.mapping() != nullptr && right.mapping() != nullptr)
    return equal_mappings(budget, *left.mapping(), *right.mapping());
  if (left.name_space() != nullptr) return left.name_space() == right.name_space();
  if (left.macro() != nullptr) return left.macro() == right.macro();
  if (left.loop() != nullptr) return left.loop() == right.loop();
  if (left.function() != nullptr && right.function() != nullptr) return *left.function() == *right.function();
  if (left.method() != nullptr && right.method() != nullptr) fail("methods are compared");
  return false;
}

std::partial_ordering compare(Budget& budget, const Value& left, const Value& right,
                              std::string_view operation) {
  budget.step();
  if (left.is_number() && right.is_number()) return compare_numbers(left, right);
  if (left.is_string() && right.is_string()) {
    budget.step(left.text().size() / 256);
    // The order of UTF-8 bytes is the order of code points.
    return left.text() <=> right.text();
  }
  const Sequence* first = left.sequence();
  const Sequence* second = right.sequence();
  if (first != nullptr && second != nullptr && first->kind == second->kind &&
      (first->kind == SequenceKind::list || first->kind == SequenceKind::tuple)) {
    const std::size_t common = std::min(first->items.size(), second->items.size());
    for (std::size_t i = 0; i < common; ++i)
      if (!equal(budget, first->items[i], second->items[i]))
        return compare(budget, first->items[i], second->items[i], operation);
    return first->items.size() <=> second->items.size();
  }
  if (left.is_undefined()) fail(left.undefined_reason());
  if (right.is_undefined()) fail(right.undefined_reason());
  fail("'" + std::string(operation) + "' not supported between instances of '" +
       std::string(left.type_name()) + "' and '" + std::string(right.type_name()) + "'");
}

bool contains(Budget& budget, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string())
      fail("'in <string>' requires string as left operand, not " + std::string(item.type_name()));
    budget.step(container.text().size() / 64);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (const Mapping* mapping = container.mapping()) return find(budget, *mapping, item) != nullptr;
  if (container.sequence() == nullptr && !container.is_undefined())
    fail("argument of type '" + std::string(container.type_name()) + "' is not iterable");
  for (const Value& element : elements(budget, container))
    if (equal(budget, element, item)) return true;
  return false;
}

Values elements(Budget& budget, const Value& value) {
  if (value.is_undefined()) return {};
  Values items;
  if (const Sequence* sequence = value.sequence()) {
    if (sequence->consumed) return {};
    if (!sequence->has_length()) sequence->consumed = true;
    budget.make(sequence->items.size() * sizeof(Value));
    return sequence->items;
  }
  if (const Mapping* mapping = value.mapping()) {
    for (const auto& [key, unused] : mapping->members) items.push_back(key);
    budget.make(items.size() * sizeof(Value));
    return items;
  }
  if (!value.is_string()) fail(not_iterable(value));
  const std::string_view text = value.text();
  for (std::size_t at = 0; at < text.size();) {
    const auto bytes = static_cast<std::size_t>(base::utf8_length(text.substr(at)));
    items.push_back(make_string(budget, slice(budget, value.marked(), at, at + bytes)));
    at += bytes;
  }
  return items;
}

std::int64_t length(Budget& budget, const Value& value) {
  if (value.is_undefined()) return 0;
  if (value.is_string()) {
    budget.step(value.text().size() / 64);
    return std::ranges::count_if(value.text(), [](char byte) { return (byte & 0xC0) != 0x80; });
  }
  if (const Mapping* mapping = value.mapping()) return static_cast<std::int64_t>(mapping->members.size());
  if (const Sequence* sequence = value.sequence(); sequence != nullptr && sequence->has_length())
    return static_cast<std::int64_t>(sequence->items.size());
  if (Loop* loop = value.loop()) return loop->length();
  fail("object of type '" + std::string(value.type_name()) + "' has no len()");
}

}  // namespace sluice::text::jinja
