// The functions that a template may call by name.

#include <array>
#include <cstdio>
#include <ctime>

#include "text/values/machine.h"

namespace sluice::text::jinja {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {"January",   "February", "March",    "April",
                                                      "May",       "June",     "July",     "August",
                                                      "September", "October",  "November", "December"};

std::string number_text(int value, int digits) {
  char text[32];
  std::snprintf(text, sizeof(text), "%0*d", digits, value);
  return text;
}

// One conversion of strftime in the locale C.
std::string convert_time(const std::tm& time, char letter) {
  const int hour = time.tm_hour % 12 == 0 ? 12 : time.tm_hour % 12;
  switch (letter) {
    case 'Y': return std::to_string(1900 + time.tm_year);
    case 'y': return number_text(time.tm_year % 100, 2);
    case 'm': return number_text(time.tm_mon + 1, 2);
    case 'd': return number_text(time.tm_mday, 2);
    case 'e': return (time.tm_mday < 10 ? " " : "") + std::to_string(time.tm_mday);
    case 'j': return number_text(time.tm_yday + 1, 3);
    case 'H': return number_text(time.tm_hour, 2);
    case 'I': return number_text(hour, 2);
    case 'M': return number_text(time.tm_min, 2);
    case 'S': return number_text(time.tm_sec, 2);
    case 'p': return time.tm_hour < 12 ? "AM" : "PM";
    case 'A': return std::string(kDays[static_cast<std::size_t>(time.tm_wday)]);
    case 'a': return std::string(kDays[static_cast<std::size_t>(time.tm_wday)].substr(0, 3));
    case 'B': return std::string(kMonths[static_cast<std::size_t>(time.tm_mon)]);
    case 'b': return std::string(kMonths[static_cast<std::size_t>(time.tm_mon)].substr(0, 3));
    case 'F': return convert_time(time, 'Y') + "-" + convert_time(time, 'm') + "-" + convert_time(time, 'd');
    case 'T': return convert_time(time, 'H') + ":" + convert_time(time, 'M') + ":" + convert_time(time, 'S');
    case '%': return "%";
    default: fail(std::string("strftime_now(): the conversion '%") + letter + "' is not supported");
  }
}

Value strftime_now(Machine& machine, const Arguments& arguments) {
  const Bound bound(arguments, "strftime_now()", {"format"}, 1);
  const std::string& format = bound.text(0).text;
  const auto seconds = static_cast<std::time_t>(machine.unix_time_s);
  std::tm time{};
  if (gmtime_r(&seconds, &time) == nullptr || time.tm_year < -900 || time.tm_year > 8099)
    fail("strftime_now(): the time is out of range");
  std::string text;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      text += format[i];
      continue;
    }
    // "%-d" is the number without zeros before it.
    const bool short_form = format[++i] == '-' && i + 1 < format.size();
    std::string part = convert_time(time, format[short_form ? ++i : i]);
    if (short_form) part.erase(0, std::min(part.find_first_not_of("0 "), part.size() - 1));
    text += part;
    machine.budget.step();
  }
  return make_string(machine.budget, std::move(text));
}

Value make_range(Machine& machine, const Arguments& arguments) {
  const Bound bound(arguments, "range()", {"start", "stop", "step"}, 1);
  if (!arguments.named.empty()) fail("range() has no named arguments");
  std::int64_t begin = bound.integer(0, 0);
  std::int64_t end = bound.integer(1, 0);
  const std::int64_t step = bound.integer(2, 1);
  if (bound.get(1) == nullptr) end = std::exchange(begin, 0);
  if (step == 0) fail("range() arg 3 must not be zero");
  constexpr std::int64_t kBoundMax = std::int64_t{1} << 53;
  for (const std::int64_t value : {begin, end, step})
    if (value > kBoundMax || value < -kBoundMax) fail("range(): a number is out of range");
  std::int64_t count = 0;
  if (step > 0 && begin < end) count = (end - begin - 1) / step + 1;
  if (step < 0 && end < begin) count = (begin - end - 1) / -step + 1;
  if (count > kRangeMax)
    fail("range() has " + std::to_string(count) + " numbers, at most " + std::to_string(kRangeMax) +
         " are allowed");
  auto sequence = std::make_shared<Sequence>();
  machine.budget.make(static_cast<std::size_t>(count) * sizeof(Value));
  sequence->kind = SequenceKind::range;
  sequence->range_begin = begin;
  sequence->range_end = end;
  sequence->range_step = step;
  for (std::int64_t i = 0; i < count; ++i) sequence->items.emplace_back(begin + i * step);
  return Value::SequencePointer(std::move(sequence));
}

// dict(mapping, name=value, ..)
Value make_dict(Machine& machine, const Arguments& arguments) {
  MappingBuilder builder(machine.budget);
  if (arguments.positional.size() > 1) fail("dict() takes at most 1 positional argument");
  if (!arguments.positional.empty()) {
    const Value& first = arguments.positional[0];
    if (first.mapping() != nullptr) {
      for (const auto& [key, value] : first.mapping()->members) builder.add(key, value);
    } else {
      for (const Value& item : elements(machine.budget, first)) {
        const Values pair = elements(machine.budget, item);
        if (pair.size() != 2)
          fail("dict(): expected pairs, found " + std::to_string(pair.size()) + " values");
        builder.set(pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, value] : arguments.named)
    builder.set(make_string(machine.budget, marked(std::string(name), true)), value);
  return builder.take();
}

}  // namespace

Value call_function(Machine& machine, Function function, const Arguments& arguments) {
  switch (function) {
    case Function::strftime_now: return strftime_now(machine, arguments);
    case Function::range: return make_range(machine, arguments);
    case Function::dict: return make_dict(machine, arguments);
    case Function::raise_exception: {
      const Bound bound(arguments, "raise_exception()", {"message"}, 1);
      throw Fault{.message = "the template refuses the conversation: " + to_text(machine, bound.at(0)).text,
                  .kind = base::ErrorKind::usage};
    }
    case Function::namespace_: break;
  }
  fail("the function is not supported");
}

}  // namespace sluice::text::jinja
