// start.groovy ROLE FILE: one process of a Pinot cluster, which lives until its input ends.
import org.apache.commons.configuration.PropertiesConfiguration
import org.apache.pinot.broker.broker.helix.HelixBrokerStarter
import org.apache.pinot.controller.ControllerStarter
import org.apache.pinot.server.starter.helix.HelixServerStarter
import org.apache.pinot.spi.env.PinotConfiguration
import org.apache.zookeeper.server.ZooKeeperServerMain

// Whoever started this holds the other end of the pipe: it closes however that process dies.
Thread.startDaemon {
    while (System.in.read() != -1) { }
    Runtime.runtime.halt(0)
}

def (role, file) = args
if (role == 'zookeeper') {
    ZooKeeperServerMain.main(file)
} else {
    def roles = [controller: ControllerStarter, broker: HelixBrokerStarter, server: HelixServerStarter]
    def service = roles[role].newInstance()
    service.init(new PinotConfiguration(new PropertiesConfiguration(new File(file))))
    service.start()
}
