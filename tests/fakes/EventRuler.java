import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import software.amazon.event.ruler.Ruler;

/** Reads lines of an event, a tab and a pattern, both JSON on one line; writes for each whether the event matches. */
public class EventRuler {
    public static void main(String[] arguments) throws Exception {
        var in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            var parts = line.split("\t");
            System.out.println(Ruler.matchesRule(parts[0], parts[1]));
        }
    }
}
