// A pickle machine whose values are descriptions: it follows every way in which a pickle can name, import,
// call and change objects, and writes down what Python would execute.
//
// The scan must not be tricked into ending before Python does. So a value that Python would not find on its
// stack or in its memo becomes "something" unknown instead of an error, and only STOP, the end of the bytes,
// an opcode of no protocol or a bound ends it. Its cost is bounded: descriptions are short texts kept once in
// texts_ (bounded in sum), and values refer to them or to the pickle itself. An import that is called later
// is reported with the call. Runs on the caller's thread and never throws because of the bytes.

#include "format/pickle_scan.h"

#include <algorithm>
#include <deque>
#include <unordered_map>
#include <utility>

#include "base/text.h"
#include "format/pickle_globals.h"
#include "format/pickle_scan_stream.h"

namespace sluice::format {
namespace {

// Bounds on what a hostile pickle can cost. An opcode of one byte can make a description of 160, so the
// length of the pickle alone is no useful bound.
constexpr std::size_t kActsMax = 64;
constexpr std::size_t kStepsMax = 1u << 24;
constexpr std::size_t kStackMax = 1u << 18;
constexpr std::size_t kMemoMax = 1u << 18;
constexpr std::size_t kTextMax = 160;              // bytes of one description
constexpr std::size_t kTextsBytesMax = 16u << 20;  // bytes of all descriptions
constexpr std::size_t kItemsShown = 6;             // items of a tuple or list that a description shows

enum class Kind : std::uint8_t {
  data,    ///< built by the pickle machine itself: numbers, strings, tuples, dicts
  text,    ///< a string whose value is known: it may name a global
  mark,    ///< the start of a group
  plain,   ///< a global of the allow-list; calling it gives data
  import,  ///< any other global
  made,    ///< the result of calling an import, or an unknown value
};

/// The description of an object. Values are small and copied; their texts live in the pickle or in the scan.
struct Value {
  Kind kind = Kind::data;
  std::string_view text;         ///< as reports show it: 'os', 5, (1, 2), os.system
  std::int32_t import_act = -1;  ///< index of the act that reports its import; -1: none
};

constexpr Value kUnknown{Kind::made, "something", -1};

class Scanner final {
 public:
  Scanner(base::Bytes bytes, std::size_t start) : stream_(bytes, start) {}

  [[nodiscard]] PickleScan scan() {
    std::size_t steps = 0;
    while (stream_.problem().empty() && step())
      if (++steps > kStepsMax) give_up("more than " + std::to_string(kStepsMax) + " opcodes");
    scan_.problem = stream_.problem();
    scan_.end_bytes = stream_.offset_bytes();
    // The report of a call names the import, so the import's own act is dropped.
    std::vector<PickleAct> told;
    for (std::size_t i = 0; i < scan_.acts.size(); ++i)
      if (!called_[i]) told.push_back(std::move(scan_.acts[i]));
    scan_.act_count -= scan_.acts.size() - told.size();
    scan_.acts = std::move(told);
    return std::move(scan_);
  }

 private:
  /// Follows one opcode; false after STOP. The names are those of pickletools. The functions below each know
  /// one group of opcodes and return false for all others.
  [[nodiscard]] bool step() {
    opcode_offset_ = stream_.offset_bytes();
    const base::Bytes code = stream_.take(1);
    if (code.empty()) return false;
    const auto opcode = std::to_integer<std::uint8_t>(code[0]);
    if (scalar(opcode) || string(opcode) || container(opcode) || stack_or_memo(opcode) || action(opcode))
      return true;
    if (opcode == '.') return false;  // STOP
    stream_.fail("opcode " + std::to_string(opcode) + " at offset " + std::to_string(opcode_offset_) +
                 " is of no pickle protocol");
    return false;
  }

  /// Numbers, None, truth values, and the frame marks, which only help Python to read ahead.
  [[nodiscard]] bool scalar(std::uint8_t opcode) {
    switch (opcode) {
      case 0x80: stream_.take(1); break;                  // PROTO
      case 0x95: stream_.take(8); break;                  // FRAME
      case 'N': push("None"); break;                      // NONE
      case 0x88: push("True"); break;                     // NEWTRUE
      case 0x89: push("False"); break;                    // NEWFALSE
      case 'J': push_number<std::int32_t>(); break;       // BININT
      case 'K': push_number<std::uint8_t>(); break;       // BININT1
      case 'M': push_number<std::uint16_t>(); break;      // BININT2
      case 'G': stream_.take(8), push("a float"); break;  // BINFLOAT
      case 'F':
      case 'I':
      case 'L': push(shown(stream_.line())); break;                                 // FLOAT, INT, LONG
      case 0x8a: stream_.skip_counted<std::uint8_t>(), push("an integer"); break;   // LONG1
      case 0x8b: stream_.skip_counted<std::uint32_t>(), push("an integer"); break;  // LONG4
      default: return false;
    }
    return true;
  }

  [[nodiscard]] bool string(std::uint8_t opcode) {
    switch (opcode) {
      case 'S': push_text(unquoted(stream_.line())); break;            // STRING
      case 'V': push_text(stream_.line()); break;                      // UNICODE
      case 'T': push_text(stream_.counted<std::uint32_t>()); break;    // BINSTRING
      case 'U': push_text(stream_.counted<std::uint8_t>()); break;     // SHORT_BINSTRING
      case 'X': push_text(stream_.counted<std::uint32_t>()); break;    // BINUNICODE
      case 0x8c: push_text(stream_.counted<std::uint8_t>()); break;    // SHORT_BINUNICODE
      case 0x8d: push_text(stream_.counted<std::uint64_t>()); break;   // BINUNICODE8
      case 'B': push_bytes(stream_.counted<std::uint32_t>()); break;   // BINBYTES
      case 'C': push_bytes(stream_.counted<std::uint8_t>()); break;    // SHORT_BINBYTES
      case 0x8e: push_bytes(stream_.counted<std::uint64_t>()); break;  // BINBYTES8
      case 0x96: push_bytes(stream_.counted<std::uint64_t>()); break;  // BYTEARRAY8
      case 0x97: push("a buffer"); break;                              // NEXT_BUFFER
      case 0x98: break;                                                // READONLY_BUFFER
      default: return false;
    }
    return true;
  }

  [[nodiscard]] bool container(std::uint8_t opcode) {
    switch (opcode) {
      case ')': push("()"); break;                             // EMPTY_TUPLE
      case 0x85: push_group(pop_many(1), "(", ")"); break;     // TUPLE1
      case 0x86: push_group(pop_many(2), "(", ")"); break;     // TUPLE2
      case 0x87: push_group(pop_many(3), "(", ")"); break;     // TUPLE3
      case 't': push_group(pop_to_mark(), "(", ")"); break;    // TUPLE
      case ']': push("a list"); break;                         // EMPTY_LIST
      case 'l': push_group(pop_to_mark(), "[", "]"); break;    // LIST
      case '}': push("a dict"); break;                         // EMPTY_DICT
      case 'd': pop_to_mark(), push("a dict"); break;          // DICT
      case 0x8f: push("a set"); break;                         // EMPTY_SET
      case 0x91: pop_to_mark(), push("a set"); break;          // FROZENSET
      case 'a': pop(), change("append to"); break;             // APPEND
      case 'e': pop_to_mark(), change("append to"); break;     // APPENDS
      case 's': pop_many(2), change("set items of"); break;    // SETITEM
      case 'u': pop_to_mark(), change("set items of"); break;  // SETITEMS
      case 0x90: pop_to_mark(), change("add to"); break;       // ADDITEMS
      default: return false;
    }
    return true;
  }

  [[nodiscard]] bool stack_or_memo(std::uint8_t opcode) {
    switch (opcode) {
      case '(': push_value({Kind::mark, "a mark", -1}); break;  // MARK
      case '0': pop(); break;                                   // POP
      case '1': pop_to_mark(); break;                           // POP_MARK
      case '2': push_value(top()); break;                       // DUP
      case 'g': get(stream_.line_number()); break;              // GET
      case 'h': get(stream_.number<std::uint8_t>()); break;     // BINGET
      case 'j': get(stream_.number<std::uint32_t>()); break;    // LONG_BINGET
      case 'p': put(stream_.line_number()); break;              // PUT
      case 'q': put(stream_.number<std::uint8_t>()); break;     // BINPUT
      case 'r': put(stream_.number<std::uint32_t>()); break;    // LONG_BINPUT
      case 0x94: put(memo_.size()); break;                      // MEMOIZE
      default: return false;
    }
    return true;
  }

  /// The opcodes that import, call or change objects: all that can execute code.
  [[nodiscard]] bool action(std::uint8_t opcode) {
    switch (opcode) {
      case 'c': global_line(); break;                                // GLOBAL
      case 0x93: stack_global(); break;                              // STACK_GLOBAL
      case 'i': instance(); break;                                   // INST
      case 'o': object(); break;                                     // OBJ
      case 'R': reduce(); break;                                     // REDUCE
      case 0x81: new_object(); break;                                // NEWOBJ
      case 0x92: new_object_with_names(); break;                     // NEWOBJ_EX
      case 'b': build(); break;                                      // BUILD
      case 0x82: extension(stream_.number<std::uint8_t>()); break;   // EXT1
      case 0x83: extension(stream_.number<std::uint16_t>()); break;  // EXT2
      case 0x84:
        extension(stream_.number<std::uint32_t>());
        break;  // EXT4
      // The loader's own function resolves a persistent id, not code of the pickle.
      case 'P': stream_.line(), push("a storage"); break;  // PERSID
      case 'Q': pop(), push("a storage"); break;           // BINPERSID
      default: return false;
    }
    return true;
  }

  // Texts.

  // Texts. Descriptions go into error messages, so everything that comes from the pickle is made printable
  // and cut to kTextMax bytes.
  static std::string_view unquoted(std::string_view text) {
    const bool quoted =
        text.size() >= 2 && text.front() == text.back() && (text.front() == '\'' || text.front() == '"');
    return quoted ? text.substr(1, text.size() - 2) : text;
  }

  /// Stores a description and returns a view of it, which stays valid because a deque does not move its
  /// elements.
  std::string_view keep(std::string text) {
    if (text.size() > kTextMax) {
      std::size_t end = kTextMax;
      while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // do not cut a character
      text.resize(end);
      text += "...";
    }
    if (texts_bytes_ + text.size() > kTextsBytesMax) return "something";
    texts_bytes_ += text.size();
    return texts_.emplace_back(std::move(text));
  }

  std::string_view shown(std::string_view text) { return keep(base::to_printable(text.substr(0, kTextMax))); }

  // The stack. Where Python would find it empty, it gives an unknown value: if the scan stopped here, a
  // pickle could make it stop before the act that matters.

  void push_value(const Value& value) {
    if (stack_.size() >= kStackMax)
      return give_up("more than " + std::to_string(kStackMax) + " values wait on its stack");
    stack_.push_back(value);
  }

  void push(std::string_view text) { push_value({Kind::data, text, -1}); }

  template <typename T>
  void push_number() {
    push(keep(std::to_string(stream_.number<T>())));
  }

  // describe() adds the quotes.
  void push_text(std::string_view text) { push_value({Kind::text, text, -1}); }

  void push_bytes(std::string_view) { push("some bytes"); }

  Value pop() {
    if (stack_.empty()) return kUnknown;
    const Value value = stack_.back();
    stack_.pop_back();
    return value;
  }

  [[nodiscard]] Value top() const { return stack_.empty() ? kUnknown : stack_.back(); }

  std::vector<Value> pop_many(std::size_t count) {
    std::vector<Value> values(count, kUnknown);
    for (std::size_t i = count; i-- > 0;) values[i] = pop();
    return values;
  }

  /// Without a mark Python would stop with an error; this machine takes the whole stack and goes on.
  std::vector<Value> pop_to_mark() {
    std::vector<Value> values;
    // Collected from the top down, then turned into the order in which they were pushed.
    while (!stack_.empty() && stack_.back().kind != Kind::mark) values.push_back(pop());
    pop();
    std::ranges::reverse(values);
    return values;
  }

  // The memo. Any index is possible, although picklers number entries from 0.

  void put(std::uint64_t index) {
    if (memo_.size() >= kMemoMax)
      return give_up("more than " + std::to_string(kMemoMax) + " values stand in its memo");
    memo_[index] = top();
  }

  void get(std::uint64_t index) {
    const auto found = memo_.find(index);
    push_value(found == memo_.end() ? kUnknown : found->second);
  }

  // Descriptions.

  std::string describe(const Value& value) {
    if (value.kind != Kind::text) return std::string(value.text);
    std::string text = "'" + base::to_printable(value.text.substr(0, kTextMax)) + "'";
    if (value.text.size() > kTextMax) text.insert(text.size() - 1, "...");
    return text;
  }

  std::string describe_group(const std::vector<Value>& values, const char* open, const char* close) {
    std::string text = open;
    for (std::size_t i = 0; i < std::min(values.size(), kItemsShown) && text.size() < kTextMax; ++i)
      text += (i == 0 ? "" : ", ") + describe(values[i]);
    if (values.size() > kItemsShown) text += ", ...";
    return text + close;
  }

  /// A group is data whatever its items are: holding an object executes nothing.
  void push_group(const std::vector<Value>& values, const char* open, const char* close) {
    push(keep(describe_group(values, open, close)));
  }

  // Acts: what Python would execute.

  /// Records an act at the current opcode. Returns its index, or -1 when the list is full and it is only
  /// counted.
  std::int32_t act(const std::string& what, const std::string& more = {}) {
    ++scan_.act_count;
    if (scan_.acts.size() >= kActsMax) return -1;
    std::string text = what + " at offset " + std::to_string(opcode_offset_) + more;
    scan_.acts.push_back({opcode_offset_, std::move(text)});
    called_.push_back(false);
    return static_cast<std::int32_t>(scan_.acts.size()) - 1;
  }

  void mark_called(const Value& callee) {
    if (callee.import_act >= 0) called_[static_cast<std::size_t>(callee.import_act)] = true;
  }

  void give_up(std::string limit) {
    scan_.gave_up = true;
    stream_.fail(std::move(limit));
  }

  static bool is_identifier(std::string_view name) {
    return !name.empty() && (name[0] < '0' || name[0] > '9') && std::ranges::all_of(name, [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
             c == '.';
    });
  }

  /// Imports of the allow-list (pickle_globals.h) are no acts: they occur in every checkpoint and only build
  /// data.
  Value import_global(std::string_view module, std::string_view name) {
    if (is_plain_global(module, name)) return {Kind::plain, shown(name), -1};
    scan_.has_named_import |= is_identifier(module) && is_identifier(name);
    const std::string full =
        base::to_printable(module.substr(0, kTextMax)) + "." + base::to_printable(name.substr(0, kTextMax));
    const std::int32_t told = act("import " + full);
    return {Kind::import, keep(full), told};
  }

  void global_line() {
    const std::string_view module = stream_.line();
    const std::string_view name = stream_.line();
    push_value(import_global(module, name));
  }

  /// The names may come from the memo or from calls. If they are not known texts, the import is reported with
  /// the descriptions of what they are.
  void stack_global() {
    const Value name = pop();
    const Value module = pop();
    if (name.kind == Kind::text && module.kind == Kind::text)
      return push_value(import_global(module.text, name.text));
    const std::string named = "the global named by " + describe(module) + " and " + describe(name);
    const std::int32_t told = act("import " + named);
    push_value({Kind::import, keep(named), told});
  }

  /// Records the call of `callee` and pushes its result.
  void call(const Value& callee, const std::string& arguments, const char* verb) {
    // The result of a harmless call is data, whatever the arguments are: their own acts have been recorded
    // already.
    if (callee.kind == Kind::plain) return push(callee.text);
    mark_called(callee);
    act(verb + describe(callee), " with " + arguments);
    push_value({Kind::made, keep("what " + describe(callee) + " gave"), -1});
  }

  /// INST of protocol 0: the names of the class follow as lines, the arguments lie above the mark.
  void instance() {
    const std::string_view module = stream_.line();
    const std::string_view name = stream_.line();
    const std::vector<Value> arguments = pop_to_mark();
    call(import_global(module, name), describe_group(arguments, "(", ")"), "call ");
  }

  /// OBJ: the class is the lowest value above the mark.
  void object() {
    std::vector<Value> values = pop_to_mark();
    const Value callee = values.empty() ? kUnknown : values.front();
    if (!values.empty()) values.erase(values.begin());
    call(callee, describe_group(values, "(", ")"), "call ");
  }

  void reduce() {
    const Value arguments = pop();
    call(pop(), describe(arguments), "call ");
  }

  void new_object() {
    const Value arguments = pop();
    call(pop(), describe(arguments), "make an object of ");
  }

  void new_object_with_names() {
    const Value names = pop();
    const Value arguments = pop();
    call(pop(), describe(arguments) + " and " + describe(names), "make an object of ");
  }

  /// BUILD calls __setstate__ of an object that has it, otherwise it sets attributes. For data that the
  /// machine itself has built neither executes code of the pickle's choice, so only other targets are acts.
  void build() {
    const Value state = pop();
    const Value target = top();
    if (target.kind == Kind::data || target.kind == Kind::text) return;
    mark_called(target);
    act("set the state of " + describe(target), " to " + describe(state));
  }

  /// The opcode calls append(), __setitem__() or add() of the object on top, which may be of any class with
  /// code of its own.
  void change(const char* verb) {
    const Value target = top();
    if (target.kind == Kind::data || target.kind == Kind::text) return;
    mark_called(target);
    act(std::string(verb) + " " + describe(target));
  }

  /// The codes stand for globals that a program registers with copyreg; the pickle does not say which.
  void extension(std::uint64_t code) {
    const std::int32_t told = act("import what the extension code " + std::to_string(code) + " stands for");
    push_value({Kind::import, keep("extension " + std::to_string(code)), told});
  }

  PickleScanStream stream_;
  std::size_t opcode_offset_ = 0;
  std::vector<Value> stack_;
  std::unordered_map<std::uint64_t, Value> memo_;
  std::deque<std::string> texts_;
  std::size_t texts_bytes_ = 0;
  std::vector<bool> called_;  ///< for each act: an import that a later act reports with its call
  PickleScan scan_;
};

}  // namespace

PickleScan scan_pickle(base::Bytes bytes, std::size_t start) { return Scanner(bytes, start).scan(); }

std::string to_sentence(const PickleScan& scan) {
  std::string text = "would ";
  for (std::size_t i = 0; i < scan.acts.size(); ++i)
    text += (i == 0 ? "" : i + 1 == scan.act_count ? ", and " : ", ") + scan.acts[i].what;
  if (scan.act_count > scan.acts.size())
    text += ", and " + std::to_string(scan.act_count - scan.acts.size()) + " more";
  if (scan.acts.empty()) text += "execute nothing";
  if (!scan.problem.empty()) text += "; the scan ends there: " + scan.problem;
  return text;
}

}  // namespace sluice::format
